"""What Windows' two cryptographic interfaces calculate: the same by CryptoAPI and by CNG."""
