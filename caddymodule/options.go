package caddymodule

import (
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Reading Caddyfile blocks, with an error for everything that isn't as it should be. Errors name file and line; none
// repeats a value that may be a secret.

// eachOption calls option with the name of each option of the block that comes next, if there is one. An option that
// isn't named as repeatable may be given once.
func eachOption(d *caddyfile.Dispenser, option func(name string) error, repeatable ...string) error {
	seen := make(map[string]bool)
	for _, name := range repeatable {
		seen[name] = false
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if name == "{" {
			return d.Errf("a block is not taken here")
		}
		again, known := seen[name]
		if again {
			return d.Errf("%s is given twice; keep one of them", name)
		}
		seen[name] = !known || again
		if err := option(name); err != nil {
			return err
		}
	}
	return nil
}

func unknownOption(d *caddyfile.Dispenser, name string, known ...string) error {
	if len(known) == 0 {
		return d.Errf("unknown option %s: no option is known here", name)
	}
	return d.Errf("unknown option %s; known here: %s", name, strings.Join(known, ", "))
}

// oneValue reads an option's only argument.
func oneValue(d *caddyfile.Dispenser) (string, error) {
	name := d.Val()
	arguments := d.RemainingArgs()
	if len(arguments) == 1 && arguments[0] == "" {
		return "", d.Errf("%s is empty; if it is written as {$…}, what that stands for isn't set", name)
	}
	if len(arguments) != 1 {
		return "", d.Errf("%s takes one value; put one with spaces in quotes", name)
	}
	return arguments[0], nil
}

// unlessSymbolic makes a check pass over values with a placeholder: they are checked when they are provisioned.
func unlessSymbolic(check func(string) error) func(string) error {
	return func(value string) error {
		if symbolic(value) {
			return nil
		}
		return check(value)
	}
}

// checkedValue reads an option's only argument and checks it.
func checkedValue(d *caddyfile.Dispenser, check func(string) error) (string, error) {
	name := d.Val()
	value, err := oneValue(d)
	if err != nil {
		return "", err
	}
	return value, checked(d, name, value, check)
}

func checked(d *caddyfile.Dispenser, name, value string, check func(string) error) error {
	err := check(value)
	switch {
	case err == nil:
		return nil
	case symbolic(value):
		return d.Errf("%s takes no placeholder; write the value out", name)
	default:
		return d.WrapErr(err)
	}
}

// checkedValues reads an option's arguments, at least one, and checks each.
func checkedValues(d *caddyfile.Dispenser, check func(string) error) ([]string, error) {
	name := d.Val()
	arguments := d.RemainingArgs()
	if len(arguments) == 0 {
		return nil, d.Errf("%s takes at least one value", name)
	}
	for _, value := range arguments {
		if err := checked(d, name, value, check); err != nil {
			return nil, err
		}
	}
	return arguments, nil
}

// duration reads an option's only argument as a duration such as 90s, 10m, 24h or 30d.
func duration(d *caddyfile.Dispenser, check func(time.Duration) error) (caddy.Duration, error) {
	name := d.Val()
	value, err := oneValue(d)
	if err != nil {
		return 0, err
	}
	parsed, err := caddy.ParseDuration(value)
	if err != nil {
		return 0, d.Errf("%s: %q is not a duration such as 90s, 10m, 24h or 30d", name, value)
	}
	if err := check(parsed); err != nil {
		return 0, d.WrapErr(err)
	}
	return caddy.Duration(parsed), nil
}

// onOff reads an option's only argument as on or off.
func onOff(d *caddyfile.Dispenser) (bool, error) {
	name := d.Val()
	value, err := oneValue(d)
	if err != nil {
		return false, err
	}
	if value != "on" && value != "off" {
		return false, d.Errf("%s is on or off, not %q", name, value)
	}
	return value == "on", nil
}

// blockOnly makes sure that an option has its block and nothing before it.
func blockOnly(d *caddyfile.Dispenser) error {
	name := d.Val()
	if len(d.RemainingArgs()) > 0 {
		return d.Errf("%s takes a block, and its options stand in it on lines of their own", name)
	}
	return nil
}

// flag reads an option without arguments.
func flag(d *caddyfile.Dispenser) (bool, error) {
	name := d.Val()
	if len(d.RemainingArgs()) > 0 {
		return false, d.Errf("%s takes no value", name)
	}
	return true, nil
}
