"""etcd: a supervised child process, and the store on its protocol. Nobody else imports its client."""
