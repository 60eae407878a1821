// Command jirani-push is the push gateway; see packages push and push/pushcli.
package main

import (
	"context"
	"os"

	"github.com/jirani/jirani/push/pushcli"
)

func main() { os.Exit(pushcli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
