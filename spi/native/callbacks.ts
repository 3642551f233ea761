/**
 * Functions of ours as native code calls them.
 *
 * @module
 */
import {
  asCallback,
  failure,
  type SpiFunctionName,
  WSPPROC_FUNCTIONS,
  WSPUPCALL_FUNCTIONS,
} from "../../ffi/spi_functions.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { spiError } from "../spi_error.ts";
import { writeInt } from "./memory.ts";

/** What native code gives to a function: numbers, addresses and handles as bigints, pointers. */
// deno-lint-ignore no-explicit-any -- the types are those of the function's row in the table
export type NativeArguments = any[];

/** A function of ours; what it throws becomes the code in `lpErrno`. */
export type Implementation = (...args: NativeArguments) => number | bigint;

/** Functions of ours as pointers, until they are closed. */
export interface CallbackTable extends Disposable {
  /** The pointers, in the order of the names. */
  readonly pointers: BigUint64Array<ArrayBuffer>;
}

/** Those without `lpErrno`. */
const SILENT: ReadonlySet<SpiFunctionName> = new Set(["lpWPUFDIsSet", "lpWPUPostMessage"]);
const DEFINITIONS = { ...WSPPROC_FUNCTIONS, ...WSPUPCALL_FUNCTIONS };

/**
 * Makes the pointers of a table. A function there is no implementation of fails with WSAEOPNOTSUPP, so that the table has
 * no holes.
 *
 * Needs full `--allow-ffi`.
 *
 * @param names The functions of the table, in its order.
 * @param implementations What they do.
 */
export function callbackTable(
  names: readonly SpiFunctionName[],
  implementations: { readonly [Name in SpiFunctionName]?: Implementation },
): CallbackTable {
  const callbacks = names.map((name) => callback(name, implementations[name] ?? (() => unsupported(name))));
  return {
    pointers: BigUint64Array.from(callbacks, ({ pointer }) => Deno.UnsafePointer.value(pointer)),
    [Symbol.dispose]() {
      for (const callback of callbacks) callback.close();
    },
  };
}

/** The code an error is to native code. */
export function codeOf(error: unknown): number {
  if (error instanceof WinsockError) return error.code;
  const invalid = error instanceof RangeError || error instanceof TypeError;
  return invalid ? WSA_ERRORS.WSAEINVAL : WSA_ERRORS.WSASYSCALLFAILURE;
}

/** A pointer that must not be NULL. */
export function required(pointer: Deno.PointerValue, functionName: string): Deno.PointerObject {
  if (pointer !== null) return pointer;
  throw spiError("WSAEFAULT", functionName, "use a pointer", "it is NULL");
}

function callback(name: SpiFunctionName, implementation: Implementation): Deno.UnsafeCallback {
  const definition = DEFINITIONS[name];
  const call: Implementation = (...args) => {
    try {
      return implementation(...args);
    } catch (error) {
      if (!SILENT.has(name)) writeInt(args.at(-1), codeOf(error));
      return failure(name, definition.result);
    }
  };
  return new Deno.UnsafeCallback(asCallback(definition), call as never) as unknown as Deno.UnsafeCallback;
}

function unsupported(name: SpiFunctionName): never {
  throw spiError("WSAEOPNOTSUPP", name.slice("lp".length), "use a socket through this table");
}
