// Command jirani-nameserver serves Jami's names; see package nameserver.
package main

import (
	"os"

	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver"
)

func main() {
	os.Exit(service.Main(nameserver.Role, os.Args[1:], os.Stdout, os.Stderr))
}
