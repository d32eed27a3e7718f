"""Other people's recordings, read into nbreplay's own and written back."""
