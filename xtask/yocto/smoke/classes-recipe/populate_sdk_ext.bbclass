# In place of oe-core's, which would have images depend on compilers for an SDK.
inherit populate_sdk_base
