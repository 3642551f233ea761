/**
 * Checks of what a program passes to the library.
 *
 * Every option of a public function is checked when the function is called. TypeScript does not check plain JavaScript,
 * and a number can be `NaN`, out of range, or one that a system call would cut to 32 bits.
 *
 * @module
 */

/** What a value must be. */
export interface Rule {
  /** The words for an error: must be … */
  readonly what: string;
  /** Whether the value must be a number. A number that is not accepted is then a `RangeError`. */
  readonly numeric?: boolean;
  /** Returns whether the value is accepted. */
  accepts(value: unknown): boolean;
}

/** The most characters of a text in an error. */
const MAX_SHOWN = 80;

/** The longest duration of a timer in milliseconds: 24 days. */
export const MAX_DURATION: number = 2 ** 31 - 1;

/** The largest number of 32 bits, such as of a process. */
export const MAX_UINT32: number = 2 ** 32 - 1;

/** `true` or `false`. */
export const BOOLEAN: Rule = { what: "true or false", accepts: (value) => typeof value === "boolean" };
/** Any text. */
export const STRING: Rule = { what: "a string", accepts: (value) => typeof value === "string" };
/** Any text that is not empty, such as a path. */
export const TEXT: Rule = {
  what: "a string that is not empty",
  accepts: (value) => typeof value === "string" && value !== "",
};
/** A function. */
export const FUNCTION: Rule = { what: "a function", accepts: (value) => typeof value === "function" };
/** An object. */
export const OBJECT: Rule = { what: "an object", accepts: isObject };
/** A signal. */
export const SIGNAL: Rule = { what: "an AbortSignal", accepts: (value) => value instanceof AbortSignal };
/** Bytes. */
export const BYTES: Rule = { what: "a Uint8Array", accepts: (value) => value instanceof Uint8Array };
/** A path, or a URL. */
export const PATH: Rule = {
  what: "a path or a URL",
  accepts: (value) => value instanceof URL || typeof value === "string" && value !== "",
};
/** A stream of bytes to read. */
export const STREAM: Rule = { what: "a ReadableStream", accepts: (value) => value instanceof ReadableStream };
/** A list of texts. */
export const STRINGS: Rule = {
  what: "an array of strings",
  accepts: (value) => Array.isArray(value) && value.every((text) => typeof text === "string"),
};
/** Texts by name. */
export const STRING_RECORD: Rule = {
  what: "an object of strings",
  accepts: (value) => isObject(value) && Object.values(value).every((text) => typeof text === "string"),
};
/** The id of a process. What process it is, the system says. */
export const PROCESS_ID: Rule = integer(0, MAX_UINT32);
/** A descriptor. */
export const HANDLE: Rule = {
  what: "a bigint from 0 to 2^64 - 1",
  numeric: true,
  accepts: (value) => typeof value === "bigint" && BigInt.asUintN(64, value) === value,
};

/** One of several texts. */
export function oneOf(...values: readonly string[]): Rule {
  const shown = values.map((value) => `"${value}"`);
  const what = `${shown.slice(0, -1).join(", ")} or ${shown.at(-1)}`;
  return { what, accepts: (value) => values.includes(value as string) };
}

/** Either of two. */
export function either(one: Rule, other: Rule): Rule {
  return {
    what: `${one.what} or ${other.what}`,
    numeric: one.numeric === true || other.numeric === true,
    accepts: (value) => one.accepts(value) || other.accepts(value),
  };
}

/** A whole number. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Rule {
  return {
    what: most === Number.MAX_SAFE_INTEGER ? `an integer from ${least}` : `an integer from ${least} to ${most}`,
    numeric: true,
    accepts: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  };
}

/** A limit: a whole number, or `Infinity`. */
export function limit(least: number, most?: number): Rule {
  const { accepts, what } = integer(least, most);
  return {
    what: `${what} or Infinity`,
    numeric: true,
    accepts: (value) => value === Infinity || accepts(value),
  };
}

/** A duration in milliseconds that a timer can wait. */
export function duration(least: number): Rule {
  return {
    what: `from ${least} to ${MAX_DURATION} ms`,
    numeric: true,
    accepts: (value) => typeof value === "number" && value >= least && value <= MAX_DURATION,
  };
}

/**
 * Checks a value.
 *
 * @param name The name of the option or parameter, for the error.
 * @throws {RangeError} If it is a number, and one that is not accepted.
 * @throws {TypeError} If it is anything else that is not accepted.
 */
export function check(name: string, value: unknown, rule: Rule): void {
  if (rule.accepts(value)) return;
  const message = `Invalid \`${name}\`: must be ${rule.what}, got ${shown(value)}`;
  if (rule.numeric && (typeof value === "number" || typeof value === "bigint")) throw new RangeError(message);
  throw new TypeError(message);
}

/**
 * Checks options. An option that is not given, or is `undefined`, has its default.
 *
 * @param options The options. They must be an object.
 * @param rules What each of them must be.
 * @throws The errors of {@linkcode check}.
 */
export function checkOptions<Options extends object>(
  options: Options,
  rules: { readonly [Name in keyof Options]?: Rule },
): void {
  check("options", options, OBJECT);
  for (const name in rules) if (options[name] !== undefined) check(name, options[name], rules[name]!);
}

/** Checks what a provider duplicates, and for which process. */
export function checkDuplication(s: unknown, processId: unknown): void {
  check("s", s, HANDLE);
  check("processId", processId, PROCESS_ID);
}

/**
 * Checks a duration.
 *
 * @param name The name of the option, for the error.
 * @param value The duration in milliseconds.
 * @param least The shortest duration that is allowed, in milliseconds. Defaults to `0`.
 * @returns The duration.
 * @throws {RangeError} If the value is `NaN`, is below `least`, or exceeds the longest duration of a timer.
 * @throws {TypeError} If the value is not a number.
 */
export function validateDuration(name: string, value: number, least = 0): number {
  check(name, value, duration(least));
  return value;
}

/**
 * Replaces what a terminal would act on: control characters, and the characters that change the direction of a text.
 * For text of other programs that may be printed.
 */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex -- the characters to replace
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, " ");
}

/** Formats a value for an error. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case "string": {
      const text = value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value;
      return JSON.stringify(printable(text));
    }
    case "bigint":
      return `${value}n`;
    case "function":
      return "a function";
    case "object":
      if (value === null) return "null";
      return Array.isArray(value) ? `[${value.slice(0, 10).map(shown).join(", ")}]` : `an object`;
    default:
      return String(value);
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
