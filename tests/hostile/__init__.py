"""Recordings, repositories, disks and programs that mean harm or fail: the promises hold all the same."""
