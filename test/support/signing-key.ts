/** The platform's signing key in tests. It signs nothing outside of them. */
export const TEST_ISSUER = "https://berth.test"
export const TEST_SIGNING_KEY = {
  kty: "OKP",
  crv: "Ed25519",
  kid: "test-2026",
  x: "ChxHu49oqZ6QDKNUxrc1C8qlD9pPVwCPQov3BxqlJEU",
  d: "otPOkE_Rj13P_23gC5PLT09TEW7F4fkbo0N4bKQHQEQ",
} as const

export const TEST_SECRETS_KEY = "c2VjcmV0cyBvZiB0aGUgdGVzdHMsIG5vIG90aGVycyE"
