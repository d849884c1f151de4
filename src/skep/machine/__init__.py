"""Machines: hosts that a user reaches over SSH, and has Docker's API of by mutual TLS from then on.

`store` keeps what is known of them in docker-machine's own form; `drivers` say where they are; `plan` (pure)
decides what a host lacks by what `host` found there, and `provision` does it over `ssh`, by `certs`'
certificates.
"""
