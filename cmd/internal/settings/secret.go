package settings

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// KeyVariable holds a volume's encryption key, as 64 hexadecimal digits, when no file is named.
const KeyVariable = envPrefix + "_ENCRYPTION_KEY"

// KeySize is the length of a volume's encryption key, in bytes.
const KeySize = 32

// ErrKey tells that an encryption key cannot be used. It never shows the key.
var ErrKey = errors.New("encryption key")

// EncryptionKey reads a key from the file, else from KeyVariable, else there is none. A key is 32 bytes, or 64 hexadecimal
// digits. A file that others can read is refused.
func EncryptionKey(file string) ([]byte, error) {
	if file == "" {
		text, ok := os.LookupEnv(KeyVariable)
		if !ok || text == "" {
			return nil, nil
		}
		key, err := parseKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%w in %s: %w", ErrKey, KeyVariable, err)
		}
		return key, nil
	}
	st, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: others can read %s (mode %04o): chmod 600 it", ErrKey, file, st.Mode().Perm())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrKey, file, err)
	}
	return key, nil
}

func parseKey(b []byte) ([]byte, error) {
	if len(b) == KeySize {
		return b, nil
	}
	text := bytes.TrimSpace(b)
	key := make([]byte, KeySize)
	if n, err := hex.Decode(key, text[:min(len(text), 2*KeySize)]); err != nil || n != KeySize || len(text) != 2*KeySize {
		return nil, fmt.Errorf("it is neither %d bytes nor %d hexadecimal digits; make one with: openssl rand -hex %d", KeySize, 2*KeySize, KeySize)
	}
	return key, nil
}
