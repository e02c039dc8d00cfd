"""The path of one token, from its bytes to a VerifiedToken."""
