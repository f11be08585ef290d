// Prints the score of one run of http-tests/cache-tests, and the tests that were not met.
//
//   node conformance.mjs SUITE_DIR RESULTS_JSON
//
// A test is met if its result is `true` and every test that it depends on is met.
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, file] = process.argv.slice(2)
const { default: groups } = await import(pathToFileURL(path.resolve(suite, 'tests/index.mjs')))
const results = JSON.parse(fs.readFileSync(file, 'utf8'))
const tests = new Map(groups.flatMap(group => group.tests).map(test => [test.id, test]))

const failedDependencies = test => (test?.depends_on ?? []).filter(id => !isMet(id))
const isMet = id => results[id] === true && failedDependencies(tests.get(id)).length === 0

const score = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
const unmet = []
for (const test of tests.values()) {
  if (test.browser_only === true) continue
  const kind = test.kind ?? 'required'
  score[kind][1] += 1
  if (isMet(test.id)) score[kind][0] += 1
  else unmet.push([kind, test.id, reason(test)])
}

function reason (test) {
  const result = results[test.id]
  if (result === undefined) return 'not run'
  if (result !== true) return result.join(': ')
  return `depends on ${failedDependencies(test).join(', ')}`
}

const order = Object.keys(score)
console.log(order.map(kind => `${kind} ${score[kind].join('/')}`).join(', '))
unmet.sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]))
for (const line of unmet) console.log(line.join('\t'))
