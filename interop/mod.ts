/**
 * Formats and protocols of other programs that pass sockets: systemd's socket activation and notifications, systemfd's
 * protocol for Windows, .NET's SocketInformation, Python's messages and descriptors, and blobs in a stream.
 *
 * For Python's `socket.share` and `fromshare`, and for `WSADuplicateSocketW` and `WSASocketW` in C, use
 * `duplicateSocket` and `openSocket` of the main entry point.
 *
 * @example A server that uses the listener it was started with, or makes one
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { notify, receiveSystemfd, systemdSockets } from "@winsock/handoff/interop";
 *
 * using systemd = systemdSockets();
 * using systemfd = await receiveSystemfd();
 * using listener = systemd.takeListener("web") ?? systemfd.takeListener(0) ??
 *   listen({ hostname: "127.0.0.1", port: 0 });
 * await notify({ READY: 1 });
 * ```
 *
 * @module
 */
export { type BlobForm, type BlobOptions, readBlobs, type ReadBlobsOptions, receiveBlobs, sendBlobs } from "./blobs.ts";
export { DescriptorChannel, encodePythonMessage, readPythonMessages } from "./python.ts";
export { type Environment, type PassedHandle, type PassedSocketInfo, PassedSockets } from "./passed_sockets.ts";
export {
  notify,
  notifyBarrier,
  type NotifyBarrierOptions,
  type NotifyOptions,
  type NotifyState,
  spawnActivated,
  type SpawnActivatedOptions,
  type StandardStream,
  type SystemdOptions,
  systemdSockets,
  watchdogInterval,
  type WatchdogOptions,
} from "./systemd.ts";
export {
  duplicateSocketInformation,
  openSocketInformation,
  parseSocketInformation,
  type SocketInformation,
  SocketInformationOptions,
  stringifySocketInformation,
} from "./dotnet.ts";
export {
  receiveSystemfd,
  type ReceiveSystemfdOptions,
  serveSystemfd,
  type ServeSystemfdOptions,
  type SystemfdServer,
} from "./systemfd.ts";
