/**
 * Names in the documentation that look like this library's and are others'.
 *
 * @module
 */

/** As they are written in the pages, the last part of each. */
export const FOREIGN_NAMES: ReadonlySet<string> = new Set([
  // Deno, and browsers
  "AddrNotAvailable",
  "BadResource",
  "ConnectionRefused",
  "ConnectionReset",
  "Interrupted",
  "NotConnected",
  "NotFound",
  "PermissionDenied",
  "automaticCompression",
  "binaryType",
  "onListen",
  "pipeTo",
  "statusText",
  // Node, and frameworks
  "Server",
  "disconnect",
  "emit",
  "fetch",
  "fork",
  "schedulingPolicy",
  // Windows
  "CancelIoEx",
  "SetEvent",
  "WaitForSingleObject",
  "DuplicateHandle",
  "SetHandleInformation",
  "TerminateProcess",
  // .NET
  "DuplicateAndClose",
  "Serialize",
  // Python
  "DupFd",
  "DupSocket",
  "Queue",
  "connection",
  "fromshare",
  "share",
]);
