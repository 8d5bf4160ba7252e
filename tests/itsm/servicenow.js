// Runs deploy/itsm/publish/servicenow.js as ServiceNow would, with just as much of ServiceNow as it needs; what it sends goes
// to a real broker. servicenow.js SCRIPT SETTINGS: a JSON object of system properties, the ticket, and the prefix of the test.
'use strict';
const { execFileSync } = require('child_process');
const fs = require('fs');
const [script, settings] = [process.argv[2], JSON.parse(process.argv[3])];

global.Class = { create: () => function () { this.initialize.apply(this, arguments); } };
global.gs = { getProperty: (name) => settings.properties[name] };
global.sn_ws = {
    RESTMessageV2: class {
        constructor() { this.call = { headers: {} }; }
        setHttpMethod(method) { this.call.method = method.toUpperCase(); }
        // The broker has the names of one test only, and no TLS.
        setEndpoint(url) {
            const [official, here] = settings.api;
            this.call.url = url.replace(official, here).replace('/mfa.requests/', `/${settings.prefix}.requests/`);
        }
        setRequestHeader(name, value) { this.call.headers[name] = value; }
        setAuthenticationProfile(kind, profile) {
            if (kind !== 'basic') throw new Error(kind);
            this.call.headers.Authorization = 'Basic ' + Buffer.from(settings.profiles[profile]).toString('base64');
        }
        // Here as there: "${name}" is a variable, and one that nobody set is nothing.
        setRequestBody(body) { this.call.body = body.replace(/\$\{[^}]*\}/g, ''); }
        execute() {
            const program = `const call = JSON.parse(require('fs').readFileSync(0));
                fetch(call.url, call).then(async (a) => console.log(JSON.stringify([a.status, await a.text()])))`;
            const [status, body] = JSON.parse(execFileSync(process.execPath, ['-e', program], { input: JSON.stringify(this.call) }));
            return { getStatusCode: () => status, getBody: () => body };
        }
    }
};
const ticket = {
    getValue: (name) => settings.ticket[name],
    getUniqueValue: () => settings.ticket.sys_id,
    caller_id: { user_name: settings.ticket.caller },
    assigned_to: { user_name: settings.ticket.assignee }
};
const MfaReset = new Function(fs.readFileSync(script, 'utf8') + '\nreturn MfaReset;')();
const reset = new MfaReset();
if (settings.lane) {
    const publish = reset._publish;
    reset._publish = function (_, ...rest) { return publish.call(this, settings.lane, ...rest); };
}
console.log(reset.request(ticket, 1, 'lost-phone'));
