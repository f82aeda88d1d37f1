// Package settings is the configuration of every command: one set of keys, read from a file, MYNETWORK_* environment
// variables and flags, the later ones winning.
//
// Keys lists them with defaults and meaning; "mynetwork help configuration" prints that list. The variable of a key is
// MYNETWORK_ and the key in capitals with _ for dots and dashes (agent.control-key is MYNETWORK_AGENT_CONTROL_KEY). The flag
// of a key is its part after the dot (mynetwork agent --control-key). Lists are separated by commas. A key that is not in the
// list is an error, wherever it stands in a file.
//
// Secrets are no settings: they are given by the names of files, or by the variable that Key names.
package settings
