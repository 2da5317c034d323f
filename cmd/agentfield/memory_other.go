//go:build !linux

package main

func restAfterStart() {}
