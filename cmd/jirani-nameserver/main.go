// Command jirani-nameserver serves Jami's names and looks after their ledger;
// see packages nameserver and namecli.
package main

import (
	"context"
	"os"

	"github.com/jirani/jirani/nameserver/namecli"
)

func main() { os.Exit(namecli.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }
