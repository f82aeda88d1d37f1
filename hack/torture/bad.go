package main

import "errors"

func (t *torture) bad() error { return errors.New("todo") }
