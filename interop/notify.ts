/**
 * Telling a service manager how a service is (sd_notify(3)).
 *
 * @module
 */
import { monotonicMicroseconds } from "../ffi/unix/clock.ts";
import { sendLocalDatagram } from "../ffi/unix/local_datagram.ts";
import type { Environment } from "./environment.ts";
import { requireLinux } from "./linux_only.ts";

/** What is told: variables and their values, such as `{ READY: 1 }`. */
export interface NotifyState {
  /** 1: the service has started, or has read its configuration again. */
  READY?: 1;
  /** 1: the service reads its configuration again; `MONOTONIC_USEC` is added where it is missing. */
  RELOADING?: 1;
  /** 1: the service is about to end. */
  STOPPING?: 1;
  /** What it is doing, in one line for people. */
  STATUS?: string;
  /** The time of `CLOCK_MONOTONIC` in microseconds. */
  MONOTONIC_USEC?: bigint;
  /** The main process, where it is another one. */
  MAINPID?: number;
  /** 1: the service is alive, where the manager watches that. */
  WATCHDOG?: 1;
  /** Any other of sd_notify(3). */
  [variable: string]: string | number | bigint | undefined;
}

/** Where {@linkcode notify} finds the manager. */
export interface NotifyOptions {
  /** The environment. Default `Deno.env`. */
  env?: Pick<Environment, "get">;
}

/**
 * Tells the service manager how this service is
 * ([sd_notify](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)): one datagram to the local socket
 * that `NOTIFY_SOCKET` names, after a wait where the manager has many unread ones. The unit must have `Type=notify`, or
 * `Type=notify-reload` for `RELOADING`.
 *
 * Needs `--allow-env=NOTIFY_SOCKET`; where it is set, also `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the
 * distribution keeps it.
 *
 * @example Ready, and later reading the configuration again
 * ```ts
 * import { notify } from "@winsock/handoff/interop";
 *
 * await notify({ READY: 1, STATUS: "Serving" });
 * await notify({ RELOADING: 1 });
 * await notify({ READY: 1 });
 * ```
 *
 * @param state What to tell.
 * @param options Where.
 * @returns Whether there was a manager to tell: `false` without `NOTIFY_SOCKET`.
 * @throws {TypeError} If a value has more than one line, or a name is none.
 * @throws {WinsockError} If nobody listens at the address.
 * @throws {Deno.errors.NotSupported} If the address is no local socket (`vsock:`), or this is not Linux.
 */
export async function notify(state: NotifyState, options: NotifyOptions = {}): Promise<boolean> {
  const address = (options.env ?? Deno.env).get("NOTIFY_SOCKET") ?? "";
  if (address === "") return false;
  requireLinux("notify a service manager");
  if (!/^[@/]/.test(address)) {
    throw new Deno.errors.NotSupported(`Cannot notify a service manager at ${address}: it is no local socket`);
  }
  const time = state.RELOADING === 1 ? { MONOTONIC_USEC: monotonicMicroseconds() } : {};
  await sendLocalDatagram(address, encode({ ...time, ...state }));
  return true;
}

function encode(state: NotifyState): Uint8Array<ArrayBuffer> {
  const lines: string[] = [];
  for (const [name, value] of Object.entries(state)) {
    if (value === undefined) continue;
    const line = `${name}=${value}`;
    if (!/^[A-Z][A-Z0-9_]*=[^\n\0]*$/.test(line)) {
      throw new TypeError(`Cannot notify a service manager of ${JSON.stringify(line)}: it is no variable of one line`);
    }
    lines.push(line);
  }
  return new TextEncoder().encode(lines.join("\n"));
}
