"""Many runs: what a profile's notebooks need, in parallel, here or on a cluster.

plan      which runs, in which state, at what cost, in which order
lines     a run as a shell command
states    what a run's folder says of it
cost      operations, and hours by recorded speeds
work      keeps runs going until all are done
local     processes on this machine
nursery   what they are forked from
beside    work beside the notebooks that wait for it, for run_all.py
slurm     jobs of Slurm, through submitit
table     what is seen of it
transfer  runs from another machine, and for one
"""
