"""Which application permissions of Microsoft Graph profiles and steps need. The same as in src/commands/check/permissions.rs: a test
compares them."""

ALWAYS = ["User.RevokeSessions.All", "User.Read.All", "RoleManagement.Read.Directory", "GroupMember.Read.All"]
METHODS, READ_METHODS = "UserAuthenticationMethod.ReadWrite.All", "UserAuthenticationMethod.Read.All"
PHONE, EMAIL = "UserAuthMethod-Phone.ReadWrite.All", "UserAuthMethod-Email.ReadWrite.All"
STEPS = {"set_phones": PHONE, "set_email": EMAIL}
PER_USER_MFA = "Policy.ReadWrite.AuthenticationMethod"
TYPES = {
    "phone_mobile": PHONE,
    "phone_alternate_mobile": PHONE,
    "phone_office": PHONE,
    "email": EMAIL,
    "fido2": "UserAuthMethod-Passkey.ReadWrite.All",
    "windows_hello": "UserAuthMethod-WindowsHello.ReadWrite.All",
    "microsoft_authenticator": "UserAuthMethod-MicrosoftAuthApp.ReadWrite.All",
    "software_oath": "UserAuthMethod-SoftwareOATH.ReadWrite.All",
    "hardware_oath": "UserAuthMethod-HardwareOATH.ReadWrite.All",
    "temporary_access_pass": "UserAuthMethod-TAP.ReadWrite.All",
    "platform_credential": "UserAuthMethod-PlatformCred.ReadWrite.All",
    "qr_code_pin": "UserAuthMethod-QR.ReadWrite.All",
    "external": "UserAuthMethod-External.ReadWrite.All",
}
PROFILES = {
    "authenticator": ["microsoft_authenticator"],
    "re-register": ["phone_mobile", "phone_alternate_mobile", "phone_office", "microsoft_authenticator", "software_oath",
                    "hardware_oath"],
    "lost-phone": ["phone_mobile", "phone_alternate_mobile", "microsoft_authenticator", "software_oath", "fido2"],
    "all": list(TYPES),
    "compromised": list(TYPES),
}


def permissions(granular, policy):
    """What profiles and types by these names need, or everything that can be removed; and what the enabled steps need."""
    needed, steps = set(ALWAYS), policy.get("enabled_steps", [])
    if granular is None:
        needed.add(METHODS)
    else:
        own = {name: removed_by(tasks) for name, tasks in policy.get("profiles", {}).items()}
        known = {name: [name] for name in TYPES} | PROFILES | own
        for name in granular:
            if name not in known:
                raise SystemExit(f"no such profile or type: {name}; there are {', '.join(known)}")
        needed |= {READ_METHODS} | {TYPES[kind] for name in granular for kind in known[name]}
        needed |= {STEPS[step] for step in steps if step in STEPS}
    if "set_per_user_mfa" in steps:
        needed.add(PER_USER_MFA)
    return sorted(needed)


def removed_by(tasks):
    """The types that a profile of your own may remove: without a list of types, any."""
    removals = [task["remove_methods"] for task in tasks if "remove_methods" in task]
    return sorted({kind for removal in removals for kind in removal.get("types") or TYPES})
