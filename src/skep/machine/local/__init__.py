"""Machines out of namespaces on this host: each has processes, mounts, a network and control groups of its
own, over an image of Debian, with an init, sshd and a Docker Engine.

`plan`, pure, says what there is to be; `base` makes the image, `network` what the machines share, `hosts`
keeps what is on disk, `power` switches on and off. What the kernel is asked is in three scripts beside them.
"""
