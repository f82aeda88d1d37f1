package inspect

import (
	"regexp"
	"strings"
)

// Gone stands where something was taken out.
const Gone = "[taken out]"

// secret are names of fields whose text or bytes are, or may be, secret, or signed by the network's key.
func secret(key string) bool {
	switch strings.ToLower(key) {
	case "token", "grant", "membergrant", "signed", "keycheck", "password", "passwd", "secret", "privatekey", "clientsecret", "accesskey", "secretkey",
		"kubectl.kubernetes.io/last-applied-configuration", "tls.key", "ca.key", "control.key":
		return true
	}
	return false
}

// hashes are names of fields that hold hexadecimal digits which are no key.
func hashes(key string) bool {
	switch strings.ToLower(key) {
	case "hash", "membersdigest", "image", "imageid", "containerid":
		return true
	}
	return false
}

// patterns find what looks like a private key, a token or an encryption key (64 hexadecimal digits) in text.
func patterns() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`),
		regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`),
		regexp.MustCompile(`(?i)\bbearer +[A-Za-z0-9._~+/=-]{8,}`),
		regexp.MustCompile(`(?i)\b(password|passwd|secret|token|encryption[-_]?key|api[-_]?key)("?\s*[:=]\s*"?)[^\s",;]{4,}`),
		regexp.MustCompile(`\b[0-9a-fA-F]{64}\b`),
	}
}

// Redactor takes secrets out of texts and objects. Make one with NewRedactor; it may be used from one goroutine.
type Redactor struct{ patterns []*regexp.Regexp }

// NewRedactor makes a Redactor.
func NewRedactor() *Redactor { return &Redactor{patterns()} }

// Text takes out of a text what looks like a secret.
func (r *Redactor) Text(s string) string {
	for _, p := range r.patterns {
		s = p.ReplaceAllString(s, Gone)
	}
	return s
}

// Object takes out of an object, as decoded from JSON, what is or looks like a secret, and what nobody reads. It changes v.
func (r *Redactor) Object(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "managedFields")
		for k, x := range v {
			text, is := x.(string)
			switch {
			case secret(k) && is && text != "":
				v[k] = Gone
			case hashes(k) && is:
			default:
				v[k] = r.Object(x)
			}
		}
		// an environment variable whose name says that it is a secret
		if name, ok := v["name"].(string); ok && looksSecret(name) {
			if _, ok := v["value"].(string); ok {
				v["value"] = Gone
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = r.Object(v[i])
		}
		return v
	case string:
		return r.Text(v)
	}
	return v
}

func looksSecret(name string) bool {
	name = strings.ToUpper(name)
	for _, w := range []string{"PASSWORD", "SECRET", "TOKEN", "_KEY", "CREDENTIAL"} {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}
