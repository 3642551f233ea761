/**
 * Where Windows keeps its own libraries. Its place could be asked of the environment, but a script that hands sockets
 * over needs no env grant; on a machine with Windows elsewhere the error names the file that was looked for.
 *
 * @module
 */

/** The directory of Windows' own libraries. */
export const SYSTEM32 = "C:\\Windows\\System32";
