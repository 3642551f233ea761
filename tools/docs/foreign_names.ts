/**
 * Names in the documentation that look like this library's and are others'.
 *
 * @module
 */

/** As they are written in the pages, the last part of each. */
export const FOREIGN_NAMES: ReadonlySet<string> = new Set([
  // Windows
  "DuplicateHandle",
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
