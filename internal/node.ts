/**
 * Deno's `node:` modules, loaded when they are first used: imported, they would double the time it takes to import this
 * library, and a process may do that long before it has a socket.
 *
 * @module
 */
import type buffer from "node:buffer";
import type childProcess from "node:child_process";
import type crypto from "node:crypto";
import type diagnosticsChannel from "node:diagnostics_channel";
import type net from "node:net";
import type perfHooks from "node:perf_hooks";
import type process from "node:process";
import type stream from "node:stream";
import type timers from "node:timers";

interface NodeBuiltins {
  "node:buffer": typeof buffer;
  "node:child_process": typeof childProcess;
  "node:crypto": typeof crypto;
  "node:diagnostics_channel": typeof diagnosticsChannel;
  "node:net": typeof net;
  "node:perf_hooks": typeof perfHooks;
  "node:process": typeof process;
  "node:stream": typeof stream;
  "node:timers": typeof timers;
}

const runtime = globalThis as unknown as {
  process: { getBuiltinModule<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] };
};

/** A module of Deno's, by its name. */
export function nodeBuiltin<Name extends keyof NodeBuiltins>(name: Name): NodeBuiltins[Name] {
  return runtime.process.getBuiltinModule(name);
}

/**
 * What Node keeps to itself, and Deno has too: no other module of the library asks for a binding.
 *
 * @typeParam Binding What is hoped to be in it: a later Deno may have another shape, so that the caller looks first.
 * @param name The binding's name.
 * @returns The binding; `undefined` if there are no bindings, or not this one.
 */
export function nodeBinding<Binding extends object>(name: "tcp_wrap" | "pipe_wrap"): Partial<Binding> | undefined {
  const { binding } = nodeBuiltin("node:process") as unknown as { binding?: (name: string) => Partial<Binding> };
  try {
    return binding?.(name);
  } catch {
    return undefined;
  }
}
