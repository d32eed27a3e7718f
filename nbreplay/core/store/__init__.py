"""Where recordings are kept: folders, archives and addresses."""
