"""The benchmark of zenith: `make bench`.

machine  what this runs on, and as whom
process  one program, measured
cluster  PostgreSQL clusters that grow, and how one directory passes through their states
tools    zenith and its peers behind one set of verbs
rows     what is measured
budgets  what zenith has to reach
report   measurements as a table
main     the command line
"""
