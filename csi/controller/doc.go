// Package controller is being written.
package controller
