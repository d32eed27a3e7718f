"""Recordings, repositories and disks that mean harm or fail: what nbreplay does, and does not do, with them."""
