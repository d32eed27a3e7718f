"""Attacks on the promises of the package: no secret on the disk, nothing lost, nothing out unseen."""
