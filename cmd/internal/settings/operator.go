package settings

import (
	"fmt"
	"log/slog"
	"os"

	"mynetwork.io/mynetwork/controllers"
)

// Options turns the values into an operator's options.
func (o *OperatorValues) Options() controllers.Options {
	return controllers.Options{Namespace: o.Namespace, Image: o.Image, HolderImage: o.HolderImage, GuardImage: o.GuardImage,
		MetricsAddress: o.MetricsAddress, ProbeAddress: o.ProbeAddress, LeaderElection: o.LeaderElection}
}

// Logger writes to standard error from the level that the settings name.
func (o *OperatorValues) Logger() (*slog.Logger, error) {
	return logger("operator.log-level", o.LogLevel)
}

func logger(key, value string) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(value)); err != nil {
		return nil, fmt.Errorf("%w %s: %q: there are debug, info, warn and error", ErrValue, key, value)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), nil
}
