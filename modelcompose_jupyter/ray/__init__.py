"""The host of a cluster: runs live in replicas that Ray Serve keeps, and servers offer them.

This is the only part of the package that imports Ray, which is an extra of it.
"""
