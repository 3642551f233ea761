/**
 * A self-signed certificate for localhost, one.test and two.test. Its key is public, so use it for tests and examples
 * only.
 *
 * @module
 */

/** The key and the certificate, as the `tls` option of `serveHttp`. */
export const CERTIFICATE = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYctGysIWCvpoe9eG
kgFK+mjPT3UcRCBIEnLXncVYfSehRANCAARc4xHLZnnYrZWZiu4veEXXV/AijlQx
y9Ucv0yVFjRPJdF7GkAUIHZoKDQHVzSvdLttcTXC8ydfQBBZ129aMAx1
-----END PRIVATE KEY-----
`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBrjCCAVOgAwIBAgIUBz6nB56kWyQRtYN3B8jGw6tbUzswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTEwMTgwMloYDzIxMjYxMDI4
MTAxODAyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARc4xHLZnnYrZWZiu4veEXXV/AijlQxy9Ucv0yVFjRPJdF7GkAUIHZo
KDQHVzSvdLttcTXC8ydfQBBZ129aMAx1o4GAMH4wHQYDVR0OBBYEFL1yEyAClY8H
RLgqrc84EcFlk3bMMB8GA1UdIwQYMBaAFL1yEyAClY8HRLgqrc84EcFlk3bMMAwG
A1UdEwEB/wQCMAAwLgYDVR0RBCcwJYIJbG9jYWxob3N0gghvbmUudGVzdIIIdHdv
LnRlc3SHBH8AAAEwCgYIKoZIzj0EAwIDSQAwRgIhAL9rIneGTQMGv0UPDmdEouqM
YiOllmODiSGCApxlVMe8AiEAxKgdbeI2eYaGCIA8nNki0wZLV8/nul7nws//z33q
Qiw=
-----END CERTIFICATE-----
`,
};
