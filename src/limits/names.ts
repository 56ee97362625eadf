import { limits } from './limits.ts';

const nameCharacters = /^[A-Za-z0-9._-]*$/;

/**
 * The rule for names of topics, groups and clients: 1 to `limits.nameCharsMax` characters of A-Z
 * a-z 0-9 . _ -
 *
 * @returns what is wrong with the name, as the description of a field violation; null if it is a
 * good one.
 */
export function nameViolation(name: string): string | null {
  if (name === '') return 'is required';
  if (name.length > limits.nameCharsMax) {
    return `has ${name.length} characters, more than name_chars_max = ${limits.nameCharsMax}`;
  }
  if (!nameCharacters.test(name)) return 'has characters other than A-Z a-z 0-9 . _ -';
  return null;
}
