/**
 * Winsock's error codes.
 *
 * @module
 */

/** What is known of one error code: its number, and what it means, in a line. */
export type WinsockErrorEntry = readonly [code: number, meaning: string];

/** Winsock's errors: each one's number, and what it means. */
export const WINSOCK_ERROR_TABLE = {
  WSA_INVALID_HANDLE: [6, "The handle of an event object is not valid"],
  WSA_NOT_ENOUGH_MEMORY: [8, "There is not enough memory"],
  WSA_INVALID_PARAMETER: [87, "A parameter is not valid"],
  WSA_OPERATION_ABORTED: [995, "The overlapped operation was cancelled, or its socket closed"],
  WSA_IO_INCOMPLETE: [996, "The overlapped operation is not complete"],
  WSA_IO_PENDING: [997, "The overlapped operation will complete later"],
  WSAEINTR: [10004, "A blocking call was interrupted"],
  WSAEBADF: [10009, "The file handle is not valid"],
  WSAEACCES: [10013, "Access is denied by the socket's access permissions"],
  WSAEFAULT: [10014, "An address points outside the process, or a buffer is too small"],
  WSAEINVAL: [10022, "An argument is invalid, or the socket is in the wrong state for the call"],
  WSAEMFILE: [10024, "No more sockets can be opened"],
  WSAEWOULDBLOCK: [10035, "A non-blocking call cannot complete at once"],
  WSAEINPROGRESS: [10036, "A blocking call is in progress"],
  WSAEALREADY: [10037, "An operation is already in progress on the non-blocking socket"],
  WSAENOTSOCK: [10038, "The descriptor is not a socket"],
  WSAEDESTADDRREQ: [10039, "A destination address is required"],
  WSAEMSGSIZE: [10040, "The message is larger than the buffer or the network allows"],
  WSAEPROTOTYPE: [10041, "The protocol does not fit the socket type"],
  WSAENOPROTOOPT: [10042, "The option is unknown or not supported at this level"],
  WSAEPROTONOSUPPORT: [10043, "The protocol is not installed or not implemented"],
  WSAESOCKTNOSUPPORT: [10044, "The socket type is not supported in this address family"],
  WSAEOPNOTSUPP: [10045, "The operation is not supported by this kind of socket"],
  WSAEPFNOSUPPORT: [10046, "The protocol family is not installed or not implemented"],
  WSAEAFNOSUPPORT: [10047, "The address does not fit the protocol"],
  WSAEADDRINUSE: [10048, "The address is already in use"],
  WSAEADDRNOTAVAIL: [10049, "The address is not one of this machine's"],
  WSAENETDOWN: [10050, "The network subsystem has failed"],
  WSAENETUNREACH: [10051, "The network cannot be reached"],
  WSAENETRESET: [10052, "The connection was broken by keep-alive"],
  WSAECONNABORTED: [10053, "The connection was aborted by this machine"],
  WSAECONNRESET: [10054, "The connection was reset by the peer"],
  WSAENOBUFS: [10055, "There is no room for buffers, or a queue is full"],
  WSAEISCONN: [10056, "The socket is already connected"],
  WSAENOTCONN: [10057, "The socket is not connected"],
  WSAESHUTDOWN: [10058, "This direction of the socket has been shut down"],
  WSAETOOMANYREFS: [10059, "There are too many references to a kernel object"],
  WSAETIMEDOUT: [10060, "The peer did not answer in time"],
  WSAECONNREFUSED: [10061, "Nobody listens at the address"],
  WSAELOOP: [10062, "The name cannot be translated"],
  WSAENAMETOOLONG: [10063, "The name is too long"],
  WSAEHOSTDOWN: [10064, "The destination host is down"],
  WSAEHOSTUNREACH: [10065, "The destination host cannot be reached"],
  WSAENOTEMPTY: [10066, "The directory is not empty"],
  WSAEPROCLIM: [10067, "Too many processes use Winsock"],
  WSAEUSERS: [10068, "The user's quota is used up"],
  WSAEDQUOT: [10069, "The disk quota is used up"],
  WSAESTALE: [10070, "The file handle is no longer available"],
  WSAEREMOTE: [10071, "The item is not available locally"],
  WSASYSNOTREADY: [10091, "The network subsystem is not ready"],
  WSAVERNOTSUPPORTED: [10092, "The requested version of Winsock is not supported"],
  WSANOTINITIALISED: [10093, "WSAStartup has not been called successfully"],
  WSAEDISCON: [10101, "The peer is shutting down gracefully"],
  WSAENOMORE: [10102, "There are no more results"],
  WSAECANCELLED: [10103, "The call was cancelled"],
  WSAEINVALIDPROCTABLE: [10104, "The service provider's procedure table is invalid"],
  WSAEINVALIDPROVIDER: [10105, "The service provider is invalid, or of another version"],
  WSAEPROVIDERFAILEDINIT: [10106, "The service provider could not be loaded or started"],
  WSASYSCALLFAILURE: [10107, "A system call that should never fail has failed"],
  WSASERVICE_NOT_FOUND: [10108, "The service is not known"],
  WSATYPE_NOT_FOUND: [10109, "The class is not known"],
  WSA_E_NO_MORE: [10110, "There are no more results"],
  WSA_E_CANCELLED: [10111, "The call was cancelled"],
  WSAEREFUSED: [10112, "The database query was refused"],
  WSAHOST_NOT_FOUND: [11001, "The host is not known"],
  WSATRY_AGAIN: [11002, "The host is not known at the moment; try again"],
  WSANO_RECOVERY: [11003, "The name lookup failed for good"],
  WSANO_DATA: [11004, "The name is known, but has no data of the requested type"],
} as const satisfies Record<string, WinsockErrorEntry>;

/** The name of a Winsock error code, such as `WSAENOTSOCK`. */
export type WinsockErrorName = keyof typeof WINSOCK_ERROR_TABLE;

/** Winsock's error codes by name. */
export const WSA_ERRORS: { readonly [Name in WinsockErrorName]: number } = Object.fromEntries(
  Object.entries(WINSOCK_ERROR_TABLE).map(([name, [code]]) => [name, code]),
) as Record<WinsockErrorName, number>;

const BY_CODE: ReadonlyMap<number, { name: string; meaning: string }> = new Map(
  Object.entries(WINSOCK_ERROR_TABLE).map(([name, [code, meaning]]) => [code, { name, meaning }]),
);

/**
 * Explains an error code.
 *
 * @param code A Winsock error code, such as 10038.
 * @returns Its name and meaning; `undefined` if it is none of Winsock's.
 */
export function describeWinsockError(code: number): { name: string; meaning: string } | undefined {
  return BY_CODE.get(code);
}
