"""`skep machine`: hosts over SSH, and Docker's API of them by mutual TLS."""
