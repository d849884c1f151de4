"""What watches a swarm, as a stack of services in that swarm: a compose file and the files it names.

`plan`: what is wanted; `compose`: the files, pure; `askable`: whether managers can be asked;
`docker_stack`: the user's own docker client deploys them, as it does every other stack.
"""
