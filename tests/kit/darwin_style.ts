/**
 * Has the library work on Linux in macOS' way, as far as Linux has the calls: `accept` and `fcntl`, `poll`, pipes, a rendezvous in
 * a directory, copies of what is on its way. `tests/native/darwin.c` has the calls that Linux lacks. To be preloaded.
 */
import { fileURLToPath } from "node:url";
import { useUnixSystem } from "../../ffi/unix/libc.ts";
import { DARWIN } from "../../ffi/unix/darwin.ts";
import { LINUX } from "../../ffi/unix/linux.ts";

useUnixSystem({
  ...LINUX,
  name: "Linux in macOS' way",
  libraryPaths: [fileURLToPath(new URL("../../.cache/native/provider.so", import.meta.url))],
  loadedName: undefined,
  errnoFunction: DARWIN.errnoFunction,
  hasAcceptConnOption: DARWIN.hasAcceptConnOption,
  SO_PROTOCOL: DARWIN.SO_PROTOCOL,
  abstractNames: DARWIN.abstractNames,
  newSocketFlags: DARWIN.newSocketFlags,
  epoll: DARWIN.epoll,
  EFD_CLOEXEC: DARWIN.EFD_CLOEXEC,
  asyncPoll: DARWIN.asyncPoll,
  pidfd: DARWIN.pidfd,
  processFiles: DARWIN.processFiles,
  MSG_NOSIGNAL: DARWIN.MSG_NOSIGNAL,
  MSG_CMSG_CLOEXEC: DARWIN.MSG_CMSG_CLOEXEC,
  closesTruncatedDescriptors: DARWIN.closesTruncatedDescriptors,
  collectsInFlightSockets: DARWIN.collectsInFlightSockets,
  sharedLocks: DARWIN.sharedLocks,
});
