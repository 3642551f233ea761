/**
 * Text as the W functions take it: UTF-16 up to a NUL.
 *
 * @module
 */

/** A text with its NUL. */
export function wideText(text: string): Uint16Array<ArrayBuffer> {
  const units = new Uint16Array(text.length + 1);
  for (let index = 0; index < text.length; index++) units[index] = text.charCodeAt(index);
  return units;
}

/** The text up to the NUL, or all of it. */
export function textOf(units: Uint16Array): string {
  const end = units.indexOf(0);
  return String.fromCharCode(...units.subarray(0, end === -1 ? undefined : end));
}
