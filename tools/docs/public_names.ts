/**
 * The names that do not change before version 2: with what each entry point exports, and its members.
 *
 * @module
 */

/** Entry point → exported name → its members. */
export const PUBLIC_NAMES: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  ".": {
    listen: [],
    connect: [],
    Socket: [
      "fromHandle",
      "detach",
      "toConn",
      "toNodeSocket",
      "getOption",
      "setOption",
      "close",
      "handle",
      "localAddr",
      "remoteAddr",
    ],
    Listener: ["handle", "addr", "fromHandle", "detach", "accept"],
    DatagramSocket: [],
    duplicateSocket: [],
    openSocket: [],
    HandoffSource: ["send", "close", "ready", "closed"],
    HandoffError: ["outcome"],
    receive: [],
    WorkerPool: ["dispatch"],
    upgrade: [],
    inherit: [],
  },
  "./http": { serveHttp: [] },
};
