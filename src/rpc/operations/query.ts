import { invalidField, malformedRequest } from '../../errors/rejections/requests.ts';
import type { NodeRequest } from '../requests/request-body.ts';

/** Node passes each byte of a path as one character, so UTF-8 must be decoded here. */
const beyondAscii = /[^\x21-\x7e]/;

/** The values of each parameter. @throws Rejection for an unknown parameter. */
export function parametersOf(query: URLSearchParams, names: readonly string[]): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const name of new Set(query.keys())) {
    if (!names.includes(name))
      throw invalidField(name, `is no parameter of this path; it has ${names.join(', ') || 'none'}`);
    found[name] = query.getAll(name);
  }
  return found;
}

export function single(parameters: Readonly<Record<string, readonly string[]>>): Record<string, string> {
  const entries = Object.entries(parameters).map(([name, [value = '', ...more]]) => {
    if (more.length > 0) throw invalidField(name, 'is given more than once');
    return [name, value] as const;
  });
  return Object.fromEntries(entries);
}

/** Strict, because URLSearchParams replaces invalid UTF-8 and keeps an invalid %. */
export function queryOf(request: NodeRequest, path: string): URLSearchParams {
  const query = request.url?.slice(path.length + 1) ?? '';
  decoded(query);
  return new URLSearchParams(query);
}

export function decoded(text: string): string {
  try {
    if (beyondAscii.test(text)) throw new URIError('not a URI');
    return decodeURIComponent(text);
  } catch {
    const why = 'has a % that is not followed by a byte of UTF-8, or a character that a URL must not have';
    throw malformedRequest(`the path or its query ${why}`);
  }
}
