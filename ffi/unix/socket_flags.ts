/**
 * Flags of Linux' `socket(2)` and its relatives.
 *
 * @module
 */

/** Local sockets. */
export const AF_UNIX = 1;
/** Closed when the process executes another program. */
export const SOCK_CLOEXEC = 0o2000000;
/** Calls return EAGAIN instead of waiting. */
export const SOCK_NONBLOCK = 0o4000;
/** The level of options of any socket. */
export const SOL_SOCKET = 1;
