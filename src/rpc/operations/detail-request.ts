import { invalidField } from '../../errors/rejections/requests.ts';
import { detailFamilies, type DetailFamily, type DetailRequest } from '../../metrics/detail.ts';
import { NamePattern } from '../../metrics/name-pattern.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { pathOf } from '../requests/rpc-listener.ts';
import { parametersOf, queryOf, single } from './query.ts';

/**
 * The families of `?family=group,topic`, by default all, and the pattern of `?match=`.
 * @throws Rejection INVALID_FIELD, MALFORMED_REQUEST
 */
export function detailRequest(request: NodeRequest): DetailRequest {
  const query = queryOf(request, pathOf(request));
  const { family = detailFamilies.join(','), match = '*' } = single(parametersOf(query, ['family', 'match']));
  const families = new Set(family.split(',').map(familyOf));
  const pattern = new NamePattern(match);
  return { families: [...families], matches: (name) => pattern.matches(name) };
}

function familyOf(name: string): DetailFamily {
  const found = detailFamilies.find((family) => family === name);
  if (found === undefined) throw invalidField('family', `is a list of ${detailFamilies.join(', ')}, with commas`);
  return found;
}
