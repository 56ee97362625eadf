/**
 * JSON as a document shows it: several values one after the other, and `…` for what is left out. In
 * a string it stands for any text, after the elements of an array for more of them, in an object
 * for more fields.
 */

const leftOut = '…';

/**
 * Cuts a text into the JSON values that it consists of; what a stream has written only in part is
 * left alone.
 */
export function jsonValues(text: string): unknown[] {
  const values: unknown[] = [];
  let from = 0;
  for (const { depth, at } of depths(text)) {
    if (depth > 0) continue;
    values.push(JSON.parse(spellOut(text.slice(from, at + 1))));
    from = at + 1;
  }
  return values;
}

/** Each bracket outside of strings, and how deep one is in after it. */
function* depths(text: string): Generator<{ depth: number; at: number; open: string }> {
  const open: string[] = [];
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}…]/g)) {
    if (token === '{' || token === '[') open.push(token);
    else if (token === '}' || token === ']') open.pop();
    else if (token !== leftOut) continue;
    yield { depth: open.length, at: index, open: open.at(-1) ?? '' };
  }
}

/** Makes a bare `…` JSON: an element, or a field. */
function spellOut(text: string): string {
  let spelled = '';
  let from = 0;
  for (const { at, open } of depths(text)) {
    if (text[at] !== leftOut) continue;
    spelled += text.slice(from, at) + (open === '{' ? `"${leftOut}":0` : `"${leftOut}"`);
    from = at + 1;
  }
  return spelled + text.slice(from);
}

export function isAsShown(shown: unknown, actual: unknown): boolean {
  if (typeof shown === 'string') return typeof actual === 'string' && pattern(shown).test(actual);
  if (Array.isArray(shown)) return Array.isArray(actual) && isArrayAsShown(shown, actual);
  if (typeof shown !== 'object' || shown === null) return shown === actual;
  if (typeof actual !== 'object' || actual === null || Array.isArray(actual)) return false;
  const fields = Object.entries(shown).filter(([name]) => name !== leftOut);
  const complete = fields.length === Object.keys(shown).length;
  if (complete && Object.keys(actual).length !== fields.length) return false;
  return fields.every(([name, value]) => isAsShown(value, (actual as Record<string, unknown>)[name]));
}

function isArrayAsShown(shown: readonly unknown[], actual: readonly unknown[]): boolean {
  const complete = shown.at(-1) !== leftOut;
  const elements = complete ? shown : shown.slice(0, -1);
  if (complete ? actual.length !== elements.length : actual.length < elements.length) return false;
  return elements.every((element, i) => isAsShown(element, actual[i]));
}

function pattern(shown: string): RegExp {
  const literal = (part: string): string => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${shown.split(leftOut).map(literal).join('.+')}$`, 's');
}
