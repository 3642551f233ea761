/** Has a pool thread wait, as where Deno's event loop cannot be told of sockets. To be preloaded. */
import { unixSystem, useUnixSystem } from "../../ffi/unix/libc.ts";

useUnixSystem({ ...unixSystem(), asyncPoll: undefined });
