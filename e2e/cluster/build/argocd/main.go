// Command argocd is the part of Argo CD that syncs: application controller and repository server, and what they need beside
// git and Helm: a Redis in memory.
//
// Which one it is follows from the name it is started under, as with the program kube beside it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/alicebob/miniredis/v2"
	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	reposerver "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	"github.com/spf13/cobra"
)

func main() {
	name := filepath.Base(os.Args[0])
	command := commandNamed(name)
	if command == nil {
		fmt.Fprintf(os.Stderr, "no program of Argo CD is named %q\n", name)
		os.Exit(2)
	}
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}

func commandNamed(name string) *cobra.Command {
	switch name {
	case "argocd-application-controller":
		return controller.NewCommand()
	case "argocd-repo-server":
		return reposerver.NewCommand()
	case "redis":
		return redis()
	default:
		return nil
	}
}

// redis serves until it is killed.
func redis() *cobra.Command {
	return &cobra.Command{
		Use:  "redis ADDRESS",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, arguments []string) error {
			if err := miniredis.NewMiniRedis().StartAddr(arguments[0]); err != nil {
				return err
			}
			select {}
		},
	}
}
