package main

import (
	"errors"
	"time"
)

func (t *torture) partitions(hold time.Duration) error { return errors.New("todo") }
