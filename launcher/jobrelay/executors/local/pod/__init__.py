"""One Job as processes of this machine: the program that runs its Pods and their containers."""
