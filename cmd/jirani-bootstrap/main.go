//go:debug x509negativeserial=1

// Command jirani-bootstrap is a DHT node by which others enter a network.
package main

import (
	"os"

	"github.com/jirani/jirani/bootstrap"
	"github.com/jirani/jirani/internal/service"
)

func main() { os.Exit(service.Main(bootstrap.Role, os.Args[1:], os.Stdout, os.Stderr)) }
