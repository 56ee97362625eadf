import { and, eq } from '../pg/drizzle.ts';
import type { consumerGroups } from './group-schema.ts';
import type { topics } from './log-schema.ts';

/** Only this file finds a topic or a group by its namespace and name. All other code uses ids. */
type NamedTable = typeof topics | typeof consumerGroups;

/** The namespace of a name without one. No other exists yet. */
const defaultNamespaceId = 0;

/** The values of the columns that identify a row. */
export function nameKey(name: string) {
  return { namespaceId: defaultNamespaceId, name };
}

export function isNamed(table: NamedTable, name: string) {
  const key = nameKey(name);
  return and(eq(table.namespaceId, key.namespaceId), eq(table.name, key.name));
}
