package grants

import "errors"

// Errors of a Signer that asks somebody.
var (
	// ErrRefused is what whoever has the key does not sign. Why, in words for people, comes with it.
	ErrRefused = errors.New("refused by the operator")
	// ErrNoAnswer is a request that nobody has answered in time.
	ErrNoAnswer = errors.New("the operator has not answered; is it running, and is the API server reachable? Try again")
)
