/** Control characters of C0 and C1, and those that turn the direction of a text around. */
const controls = /[\p{Cc}\u202a-\u202e\u2066-\u2069]+/gu;

/**
 * Replaces what would control the terminal that shows a text of a client, in the log, at the start
 * or in an error.
 */
export function printable(text: string): string {
  return text.replaceAll(controls, ' ');
}

/** The same for a text of several lines. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}
